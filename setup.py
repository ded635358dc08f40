"""What setup.cfg cannot say: wheels have the folder configs/ inside jaxret.

There it clashes with nobody's `configs`; see jaxret/config_files.py. Editable
installations read it where it lies.
"""
import pathlib
import shutil

import setuptools
from setuptools.command import build_py


class BuildWithConfigs(build_py.build_py):
  """Copies jaxret and, besides, the configs."""

  def run(self):
    super().run()
    if not self.editable_mode:
      target = pathlib.Path(self.build_lib, 'jaxret', 'configs')
      shutil.rmtree(target, ignore_errors=True)
      shutil.copytree('configs', target,
                      ignore=shutil.ignore_patterns('__pycache__'))


setuptools.setup(cmdclass={'build_py': BuildWithConfigs})
