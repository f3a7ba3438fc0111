"""From rows to labels: what a dataset's file holds, and which of its tokens are trained on."""
