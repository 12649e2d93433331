"""What runs beside the gateway: listener, reconciler, migrations."""
