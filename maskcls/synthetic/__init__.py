"""The drawn data set for `data=synthetic`."""
