"""Two worker processes for the Flask service: gunicorn --config gunicorn.conf.py app:app"""

workers = 2
threads = 2
graceful_timeout = 10
