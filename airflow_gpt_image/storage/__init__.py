"""Where images land: folders on any store, checked pictures, safe names, and the record beside each image."""
