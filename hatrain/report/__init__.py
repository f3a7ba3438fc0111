"""One HTML page about a run, or about several side by side: from the files of run directories to text."""
