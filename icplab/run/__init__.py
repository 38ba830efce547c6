"""The quarterly run and what is done with its results: kernels, publication, verification, comparison, export."""
