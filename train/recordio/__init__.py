"""MXNet's RecordIO files and insightface's verification files, read and written without mxnet."""
