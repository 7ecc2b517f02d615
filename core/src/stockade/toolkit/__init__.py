"""What walls may build on, strangers' walls too; core itself never imports it."""
