"""Says hello, and which replica says it."""  # noqa: INP001

import socket

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return f"Hello, World! This is {socket.gethostname()}.\n"
