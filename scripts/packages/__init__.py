"""Makes what machines without a package index install: wheels, the bundle, the Debian package, the manual pages."""
