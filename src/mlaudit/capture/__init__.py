"""First stage: what happens in the process becomes audit events.

``instrumentor`` sets the hooks that ``integrations`` lists; ``request_context`` and ``origin`` determine the actor;
``hooks`` is the one way to hook a library. Folders by subject: web, models, data, process, telemetry, libraries.
"""
