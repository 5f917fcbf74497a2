"""What events and fields there are.

``data`` is the only truth; ``load`` reads it, ``check`` holds it together, and everything else is generated.
``names`` is generated for the hot path, which reads no YAML.
"""
