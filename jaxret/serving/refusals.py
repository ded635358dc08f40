"""What a client is told when it does not get what it asked for."""


class Refused(ValueError):
  """One line for who asked. status: of HTTP."""

  def __init__(self, status: int, said: str):
    super().__init__(said)
    self.status = status
