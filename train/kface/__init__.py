"""K-FACE as it is on disk: codes, annotations, zips that are read in place, crops, splits."""
