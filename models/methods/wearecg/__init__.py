"""WearECG: twelve leads from the three of a wearable by a variational autoencoder."""
