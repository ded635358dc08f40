"""One file a data set or a layout of files: what there is to train and find."""
