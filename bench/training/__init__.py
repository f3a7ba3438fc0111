"""Speed of training on processors: hatrain beside the trainers that people would use instead. `make bench` runs it."""
