"""Graph convolutional predictors: operators as nodes with attributes and shapes."""
