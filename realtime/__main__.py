"""``python -m realtime``: the ``realtime`` command where its script is not on the path."""

from realtime.app import main

if __name__ == "__main__":
    main()
