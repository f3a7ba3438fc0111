"""The Home Assistant data: devices, languages and the generator that makes rows of them. It needs no torch."""
