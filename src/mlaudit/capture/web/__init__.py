"""Requests: ASGI, WSGI, gRPC, and the frameworks on top.

One exchange is one record: ``http_exchange`` and its ASGI, WSGI and gRPC forms follow it, ``authentication`` and
``access_change`` say what it did to access.
"""
