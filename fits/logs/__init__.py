"""What trainers log, read into tables: TensorBoard, Weights & Biases, JSON lines, Hugging Face.

Files are parsed here, byte by byte where they are binary: no tracker needs to be installed, and
nothing is unpickled or run.
"""
