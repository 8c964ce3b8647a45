"""portrait: identity-preserving portrait stylization, measured rather than hoped.

A photo goes in; a stylized portrait comes out in which the same person is still recognised.
`portrait.stylizer.Stylizer` is the road as an object; `portrait --help` is the road as a command.
"""

import os

# Before any of these libraries is imported: onnxruntime >= 1.29 uploads telemetry unless told otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns of what it lacks while it is imported

__version__ = "0.1.0"
