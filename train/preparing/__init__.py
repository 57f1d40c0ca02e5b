"""Any source of labelled faces becomes a prepared set: cropped by several processes, written once, every loss named."""
