"""The launch wing: decides what a job needs and spells it for a launcher. It never imports torch."""
