"""The vocabulary: values and rules of the OCI specifications. No I/O; imports nothing else of ours."""
