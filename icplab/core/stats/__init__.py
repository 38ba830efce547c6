"""Statistics shared by the stages: intervals, survival, resampling, pooling, logistic fits, multiplicity."""
