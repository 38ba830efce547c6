"""Reads nothing, makes `data/sample`: `python -m icplab.simulate`."""

from pathlib import Path

from icplab.simulate.sample import write_sample

if __name__ == "__main__":
    print(write_sample(Path("data/sample")))
