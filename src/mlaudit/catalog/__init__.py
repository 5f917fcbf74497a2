"""The catalog of event kinds and fields.

``data`` is the single source; ``load`` reads it, ``check`` checks its consistency, and everything else is generated
from it. ``names`` is generated for the hot path, which reads no YAML.
"""
