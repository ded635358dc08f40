"""A method and a data set as a user has them, outside of jaxret."""
