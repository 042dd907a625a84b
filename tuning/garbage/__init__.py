"""What a store holds that no study and no model needs: found, shown and removed."""
