"""Home Assistant: devices, languages, homes, the dataset generator, and the judge of calls. It never imports torch."""
