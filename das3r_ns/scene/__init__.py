"""SceneEstimate, the only thing that passes from a front end to the splats; its cache on disk, and its geometry."""
