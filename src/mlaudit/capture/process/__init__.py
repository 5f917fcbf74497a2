"""The process itself: life cycle, environment, runtime events.

``lifecycle`` records start and end, ``audit_hooks`` what the interpreter reports (processes, debuggers, pickles,
files), ``error_reports`` unhandled errors; ``background`` runs work that must not run in the interrupted code.
"""
