"""What ``realtime calibrate`` is made of: a labelled set, its embeddings, the tail of its distances, trial
galleries."""

from typing import Final

RATES: Final = (1e-2, 1e-3, 1e-4, 5e-5, 2e-5, 1e-5, 1e-6)
"""False match rates of the table, a comparison."""

DEFAULT_RATE: Final = 2e-5
"""At which the embedded model's threshold is set. On LFW a gallery of 286 people with 3 photos each then names 92 % of
single probe photos right and 0.5 % of strangers (1e-4: 93 % and 1.4 %; 1e-5: 90 % and 0.3 %)."""
