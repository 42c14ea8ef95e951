"""The `broker` command, also as `python -m broker`."""

import sys
from typing import cast

# Codecs need numpy, and run in processes of their own; pydicom would load it here too, for 35 MB and a tenth of a second.
cast(dict[str, object], sys.modules).setdefault("numpy", None)

from broker.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
