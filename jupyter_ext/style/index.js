import './base.css';
import './runs.css';
import './sections.css';
