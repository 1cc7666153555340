"""How the models that the package ships are made."""
