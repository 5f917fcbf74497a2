"""Fuzz targets and what drives them: hypothesis in ``make test``, atheris in ``make fuzz``."""
