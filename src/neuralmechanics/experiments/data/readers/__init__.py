"""Files that others published: IDX, CIFAR records, tables, folders of pictures, read without trust."""
