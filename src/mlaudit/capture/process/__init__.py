"""The process itself: life cycle, environment, runtime events.

``lifecycle`` tells start and end, ``audit_hooks`` what the interpreter reports (processes, debuggers, pickles, files),
``error_reports`` what went wrong; ``background`` takes work that must not be done where it arises.
"""
