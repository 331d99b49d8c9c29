"""The images of the layout that the tests of imports begin with."""

from images import image, multi_platform

APP = image("app", size=3_000)
MULTI = multi_platform("multi", size=3_000)
