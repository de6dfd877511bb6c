"""Networks that turn one kind of input into features; methods are built from them."""
