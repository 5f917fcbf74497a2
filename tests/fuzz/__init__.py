"""Fuzz targets and their drivers: hypothesis in ``make test``, atheris in ``make fuzz``."""
