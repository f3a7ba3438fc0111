"""A test set from Home Assistant's own test sentences (home-assistant/intents), which nobody here wrote."""

ATTRIBUTION = (
    "Sentences, homes and responses: home-assistant/intents, The Home Assistant Authors, "
    "Creative Commons Attribution 4.0 International (CC BY 4.0), https://github.com/home-assistant/intents. "
    "Changes: a sample of the test sentences, written as rows for a language model."
)
