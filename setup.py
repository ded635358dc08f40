"""What setup.cfg cannot say: the folder configs/ is installed inside jaxret.

There it clashes with nobody's `configs`; see jaxret/config_files.py.
"""
import setuptools

setuptools.setup(
    packages=[*setuptools.find_packages(include=['jaxret', 'jaxret.*']),
              'jaxret.configs'],
    package_dir={'jaxret.configs': 'configs'})
