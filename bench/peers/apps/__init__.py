"""
Servers of the Python peers, run by a Python that has their packages.

They share paths: `GET /files/<id>/events` waits, `POST /files/<id>` publishes.
"""
