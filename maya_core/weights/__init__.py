"""How a model is kept: folders and repositories, layouts, four bits, adapters."""
