"""A variational autoencoder for any fixed mesh topology.

The package knows nothing of faces and never imports `diverse3d`. Its rooms are the hierarchy of pooling levels, two
families of mesh convolution behind one interface (spatially varying and spiral), the models and their training.
"""
