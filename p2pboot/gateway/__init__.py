"""The HTTP gateway: machines that speak only HTTP get from a node what it holds. Imported only when it is wanted."""
