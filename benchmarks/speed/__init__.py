"""Speed of one step: the published procedure, backpropagation and this engine, measured in turn."""
