"""The files that the launch side and the training side both read and write."""
