"""From a reference map to a class mask on a scene's grid."""
