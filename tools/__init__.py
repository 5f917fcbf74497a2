"""What only a checkout needs: generators of assets and documents, called by `make generate`."""
